"""One file for each form; the newest is `vidfed.node.schema.REVISION`."""

"""One file for each form; the newest is `vidfed.node.records.schema.REVISION`."""

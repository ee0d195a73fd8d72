"""The federation layer: one question to every node, verified answers, honest outcomes."""

"""Messages to values and back, rejecting what is not of the stated form. The one place that knows both protobuf and our types."""

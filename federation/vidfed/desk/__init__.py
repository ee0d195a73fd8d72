"""The desk: what the commands do, in a browser, by a program that only the person at this machine can reach. docs/desk.md is the guide."""

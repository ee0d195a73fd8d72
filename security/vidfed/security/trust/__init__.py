"""The trust directory as TUF metadata: who is a member, with which keys, decided by m of n administrators.

Source: https://theupdateframework.github.io/specification/latest/. Root and targets are signed offline by the administrators, snapshot and
timestamp by one online key, each member's own entry by that member. `client` reads it, `repository` publishes it, `draft` is what a
ceremony signs.
"""

"""The language of expressions: a tree of our own, checked for types, evaluated within bounds."""

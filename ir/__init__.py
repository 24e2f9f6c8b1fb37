"""The intermediate representation: types, graph, ops, text."""

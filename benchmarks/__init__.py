"""Graphmill beside its peers: workloads × frameworks, checked against NumPy in float64."""

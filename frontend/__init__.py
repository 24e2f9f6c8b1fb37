"""Frontend: user functions traced to Graphmill IR."""

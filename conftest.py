"""Lets tests import each other as `tests.<folder>`; an installed graphmill stays first."""

import os.path
import sys

sys.path.append(os.path.dirname(__file__))

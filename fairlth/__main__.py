"""`python -m fairlth`: the command `fairlth` where its script is not on the path."""

import sys

from fairlth.workflow.cli import main

sys.exit(main())

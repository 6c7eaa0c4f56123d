"""`python -m lesionlab`."""

import sys

from lesionlab.cli.app import main

sys.exit(main())

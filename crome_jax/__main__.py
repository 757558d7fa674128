"""`python -m crome_jax` is the `crome` command."""

import sys

from crome_jax.cli import main

sys.exit(main())

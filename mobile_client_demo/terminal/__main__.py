"""`python -m aldis.mobile_client_demo.terminal` is `aldis chat`."""

import sys

from aldis.mobile_client_demo.terminal.main import main

sys.exit(main())

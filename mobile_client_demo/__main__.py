"""`python -m aldis.mobile_client_demo` is `aldis demo`."""

import sys

from aldis.mobile_client_demo.demo import main

sys.exit(main())

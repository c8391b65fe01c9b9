"""`python -m ds01.monitor`: the service, as its unit runs it."""

from ds01.monitor.service import main

main()

"""Cases, graders, runs, records, statistics and reports. Uses the public `Model` alone."""

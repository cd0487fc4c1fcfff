"""The report: one HTML page that needs no network, no script and no font of its own."""

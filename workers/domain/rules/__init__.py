"""Response rules: parsed, matched against an event, and planned into one request."""

"""History: how the steps of an execution fold into one row, what is asked of it, and how long it is kept."""

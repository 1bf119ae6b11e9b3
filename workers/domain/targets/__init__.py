"""What is known of the things an action may touch, what tells one from another, and which of them are protected."""

"""Facts about what an action may touch, how one is distinguished from another, and which are protected."""

"""What a user asks, a module a question, up to its printed answer: imports all rooms but `page`."""

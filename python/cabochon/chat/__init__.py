"""Messages to prompts: the checkpoint's own template, and the tokens that only it may write."""

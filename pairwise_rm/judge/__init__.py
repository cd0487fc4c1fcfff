"""Judge pairs without labels: one prompt and two responses, or a file of them, in both orders."""

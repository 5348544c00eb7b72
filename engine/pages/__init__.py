"""What is kept, and how it is given back: back ends for page bytes (`pam/`), equal pages, queues,
pins, the retired list."""

"""What is asked of the kernel and of the C library: byte locks that say who lives, semaphores to
sleep on, grace periods, groups of users, and what a fork and a SIGBUS do to a process."""

"""One file a kind of answer; `grading.find_grader` imports them by need."""

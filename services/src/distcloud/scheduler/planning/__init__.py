"""The planner's steps, each a pure function or value over one cycle's situation."""

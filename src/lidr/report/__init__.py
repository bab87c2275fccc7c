"""What the report says and shows: plain values, words, plots and Markdown, from what a run left on disk."""

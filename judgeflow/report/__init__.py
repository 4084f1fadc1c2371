"""What a run did, what it cost and whether it helped: figures from the verdict database, and what draws and prints them."""

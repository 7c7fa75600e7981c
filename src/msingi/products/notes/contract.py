"""What other products may know of notes: nothing yet; notes are their owner's own."""

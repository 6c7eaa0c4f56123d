"""Model cards, with CLEAR Derm, CLAIM and TRIPOD+AI item by item."""

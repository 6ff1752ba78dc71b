"""Operations that several methods need: random draws, block masks, boxes, dropping units and rescaling."""

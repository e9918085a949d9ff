"""Operations of ANN and SNN, and what they cost."""

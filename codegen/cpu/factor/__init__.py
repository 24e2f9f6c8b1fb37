"""Factoring matrices and solving systems of equations.

Right-looking, panel by panel (Golub and Van Loan, "Matrix Computations", 3.2 and 4.2; LAPACK's
getrf, trsm and potrf). A matrix is worked on in rows of whole registers, right sides beside it, so
that eliminating and the forward substitution are one; complex numbers lie as pairs.
"""

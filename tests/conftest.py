"""What every test shares."""

import os

# Workers and engines share few cores: threads that spin while they wait keep the others from running. Read when torch
# is imported, which no test module does at its top.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

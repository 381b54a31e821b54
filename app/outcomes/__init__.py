"""What became of applications: facts that originators and servicers report, and the state that they add up to."""

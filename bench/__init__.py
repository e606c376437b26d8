"""How fast it is, compared with others, and what the limits are: `make bench`.

Every figure is a ratio of things measured in turn in one run, since machines are noisy: rounds go
round all contestants, and what is shown is the median with the least and the most. All of it runs
real programs: mosquitto as the product configures it, the service as a process, the others as
people would write them (`contestants.py`).
"""

"""Is this installation fit to run, what is this machine, and what follows from it?"""

from hwprune.doctor.installation import Need, TargetState, requirements, target_state, targets

__all__ = ["Need", "TargetState", "requirements", "target_state", "targets"]

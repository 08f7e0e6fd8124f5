"""What members and their care team write to each other. Some of it holds words that are treated as a red flag: in
English or Spanish, or in a denial. Some holds such words so far apart that they are none."""

import random

ALARMING = (
    "I have chest pain and am short of breath.",
    "No chest pain today, only the knee.",
    "My calf is swollen and the foot is cold.",
    "The knee locked on the stairs.",
    "No puedo caminar desde ayer.",
    "La rodilla est\u00e1 roja e hinchada.",
)
"""A member who writes so is told what to do at once, and a clinician is asked. Of who is of the team nobody is."""
HARMLESS = ("simulated", "My foot was well while the pack was cold.", "How many steps a day?")
ALARMED = 0.2


def draw_text(chance: random.Random) -> str:
    return chance.choice(ALARMING if chance.random() < ALARMED else HARMLESS)

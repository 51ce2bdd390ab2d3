"""Says on stderr what is being measured, and how long the rest will take."""
import json
import sys
import time


class Progress:
    """Knows from the last runs how long each row took; a row that none of them had takes as long as others here."""

    def __init__(self, path, kind, places):
        """places: words for all that is to be done, in this order; kind: what makes times comparable."""
        self.path, self.kind, self.places = path, kind, places
        self.known = json.loads(path.read_text()) if path.exists() else {}
        self.last = self.known.setdefault(kind, {})
        self.done, self.began = {}, time.monotonic()

    def left(self):
        """Seconds, or None while nothing tells."""
        common = [place for place in self.done if place in self.last]
        pace = sum(self.done[place] for place in common) / sum(self.last[place] for place in common) if common else 1
        spent = list(self.done.values()) or list(self.last.values())
        if not spent:
            return None
        usual = sum(spent) / len(spent)
        return sum(self.last[place] * pace if place in self.last else usual for place in self.places[len(self.done):])

    def begin(self):
        left = self.left()
        words = "" if left is None else f"; about {left / 60:.0f} min left"
        spent = (time.monotonic() - self.began) / 60
        number = len(self.done)
        print(f"[{number + 1}/{len(self.places)}] {self.places[number]}; {spent:.0f} min so far{words}",
              file=sys.stderr, flush=True)
        self.row_began = time.monotonic()

    def end(self):
        self.done[self.places[len(self.done)]] = time.monotonic() - self.row_began
        self.path.write_text(json.dumps(self.known | {self.kind: self.last | self.done}, indent=1) + "\n")

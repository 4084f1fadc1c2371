import sys
sys.path.insert(0, "/tmp/exp4")
from surf import feats
NAMES = tuple(feats("a b", "c d"))
SURFACE_VERSION = 1
class PromptSurface:
    def __init__(self, prompt):
        self.prompt = prompt
    def of(self, response):
        return tuple(feats(self.prompt, response).values())

class Path: pass
PATHS: dict = {}

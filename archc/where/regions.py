from archc.where.base import Region
REGIONS: dict = {}

"""Surgery: put blocks into any host, take them out, and lose nothing. Knows no registry and no spec."""

from attnzoo.surgery.attach import insert
from attnzoo.surgery.files import load_inserted, save_inserted
from attnzoo.surgery.life import (
    Insertion,
    disable,
    disabled,
    enable,
    inserted,
    parameter_groups,
    remove,
    swap,
    train_only_inserted,
)
from attnzoo.surgery.plan import Make, Order, Site
from attnzoo.surgery.probing import Probe, probe
from attnzoo.surgery.profiling import Cost, Profile, Time, profile
from attnzoo.surgery.report import Report, Row
from attnzoo.surgery.sites import STATION, At, host_modules, select
from attnzoo.surgery.station import Inserted, Place, Station

__all__ = [
    "STATION",
    "At",
    "Cost",
    "Inserted",
    "Insertion",
    "Make",
    "Order",
    "Place",
    "Probe",
    "Profile",
    "Report",
    "Row",
    "Site",
    "Station",
    "Time",
    "disable",
    "disabled",
    "enable",
    "host_modules",
    "insert",
    "inserted",
    "load_inserted",
    "parameter_groups",
    "probe",
    "profile",
    "remove",
    "save_inserted",
    "select",
    "swap",
    "train_only_inserted",
]

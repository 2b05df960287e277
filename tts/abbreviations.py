"""Abbreviations by how they stand in a sentence: where it goes on after their full stop, and how they are read."""

from __future__ import annotations

TITLES = {
    "Adm": "Admiral",
    "Capt": "Captain",
    "Cmdr": "Commander",
    "Col": "Colonel",
    "Cpl": "Corporal",
    "Dr": "Doctor",
    "Gen": "General",
    "Gov": "Governor",
    "Hon": "Honorable",
    "Lt": "Lieutenant",
    "Maj": "Major",
    "Messrs": "Messieurs",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Pres": "President",
    "Prof": "Professor",
    "Rep": "Representative",
    "Rev": "Reverend",
    "Sen": "Senator",
    "Sgt": "Sergeant",
    "Supt": "Superintendent",
}
"""A name follows, so that no sentence ends there."""

PLACES = {"Ft": "Fort", "Mt": "Mount", "St": "Saint"}
"""The same before a name; `St` after one is a street."""

NUMBERED = {
    "art": "article",
    "ca": "circa",
    "ch": "chapter",
    "eq": "equation",
    "fig": "figure",
    "figs": "figures",
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "sec": "section",
    "vol": "volume",
    "vols": "volumes",
}
"""A number follows, else it is a word that may end a sentence ("No.")."""

WITHIN = {
    "a.k.a": "also known as",
    "approx": "approximately",
    "cf": "compare",
    "e.g": "for example",
    "esp": "especially",
    "i.e": "that is",
    "resp": "respectively",
    "v": "versus",
    "viz": "namely",
    "vs": "versus",
}
"""Something follows, whatever it begins with."""

MONTHS = {
    "Jan": "January",
    "Feb": "February",
    "Mar": "March",
    "Apr": "April",
    "Jun": "June",
    "Jul": "July",
    "Aug": "August",
    "Sep": "September",
    "Sept": "September",
    "Oct": "October",
    "Nov": "November",
    "Dec": "December",
}

EITHER = {
    "assn": "association",
    "ave": "avenue",
    "avg": "average",
    "blvd": "boulevard",
    "bros": "brothers",
    "co": "company",
    "corp": "corporation",
    "dept": "department",
    "est": "established",
    "etc": "et cetera",
    "govt": "government",
    "inc": "incorporated",
    "intl": "international",
    "jr": "junior",
    "ltd": "limited",
    "max": "maximum",
    "min": "minimum",
    "misc": "miscellaneous",
    "natl": "national",
    "sr": "senior",
    "tel": "telephone",
    "univ": "university",
}
"""A sentence may end there: it does where the next word is one that sentences begin with."""

"""From the records of a run to its verdict: `collect`, then `report`, then `page` and `tables`.

python -m loadtest.report RUN.jsonl --out FOLDER
"""

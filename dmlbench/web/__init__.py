"""The search application, a local web application over finished runs. Needs Flask (`pip install 'dmlbench[web]'`)."""

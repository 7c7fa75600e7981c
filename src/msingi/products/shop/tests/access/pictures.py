"""Who may do what with pictures. What is sent here is JSON, which is no picture: 415 is for who may send one."""

from typing import Any

TABLE = """
    POST   /pictures              401     403  415
    GET    /pictures/none         401     403  404
    DELETE /pictures/none         401     403  404
"""
BODY: dict[str, Any] = {"POST /pictures": {"no": "picture"}}

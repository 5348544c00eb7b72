"""What callers hold: engines, pools, objects, views, clients, crews. Arguments in; bools, bytes and
exceptions out."""

"""python -m las_sj: see las_sj_cli."""

from las_sj_cli import main

if __name__ == "__main__":
    main()

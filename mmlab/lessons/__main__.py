import sys

from mmlab.lessons.models import main

sys.exit(main())

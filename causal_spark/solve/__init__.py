"""Pure mathematics on small statistics: numpy and scipy, never Spark, never pandas."""

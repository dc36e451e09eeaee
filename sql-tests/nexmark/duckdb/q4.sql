-- Average price for a category. An auction sells at the highest bid that came while it was open, from its start to its
-- end, both included; without such a bid it does not count. Of each category the average of these prices.
WITH sold AS (
  SELECT category, (SELECT max(price) FROM bid WHERE auction = a.id AND date_time >= a.date_time AND date_time <= a.expires) AS price
  FROM auction a
)
SELECT category, avg(price) FROM sold WHERE price IS NOT NULL GROUP BY category;

-- Discounted revenue.
select sum(l_extendedprice* (1 - l_discount)) as revenue from lineitem, part where (p_partkey = l_partkey and
  p_brand = 'Brand#12' and p_container in ('SM CASE', 'SM BOX', 'MED BOX') and l_quantity >= 1 and l_quantity
  <= 1 + 30 and p_size between 1 and 15 and l_shipmode in ('AIR', 'AIR REG') and l_shipinstruct = 'DELIVER IN
  PERSON') or (p_partkey = l_partkey and p_brand = 'Brand#23' and p_container in ('MED BAG', 'MED BOX', 'LG
  CASE') and l_quantity >= 10 and l_quantity <= 10 + 30 and p_size between 1 and 40 and l_shipmode in ('AIR',
  'MAIL') and l_shipinstruct = 'DELIVER IN PERSON')
